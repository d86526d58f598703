"""A load test for whoever runs the relay: many streams at once, and what they cost a reader in time.

It speaks docs/protocol.md and knows nothing of the relay's inside: of the package it takes the SSE
decoder and the limit on open files. docs/loadtest.md tells what is measured, and how.
"""
