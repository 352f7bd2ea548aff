"""What a site and the server must agree on: data vocabulary, network, privacy accounting, wire format."""
