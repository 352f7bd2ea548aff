"""The privacy report: what a site's ledger adds up to, for the people who answer for it."""
