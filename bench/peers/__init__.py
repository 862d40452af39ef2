"""What is measured side by side: Leads at both of its sizes, PocketBase, the usual take-home, and a bare ASGI app."""
