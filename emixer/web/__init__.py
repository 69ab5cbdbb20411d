"""What every page that emixer serves stands on: an address, tokens, headers, request bodies, start and end.

Knows nothing of what is served. Needs the extra `web`.
"""
