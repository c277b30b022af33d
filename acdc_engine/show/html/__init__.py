"""Self-contained HTML files, safe with text of strangers: no server, no network. What all pages share."""
