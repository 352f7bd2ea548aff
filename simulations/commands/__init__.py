"""``fedmammo``, and what needs no hospital. A command parses, calls and prints, and imports when it runs."""
