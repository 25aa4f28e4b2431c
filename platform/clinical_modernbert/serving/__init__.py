"""The endpoint: the APIs of OpenAI and TEI over one scheduler a replica.

Only ``app`` knows Ray; the rest runs on any ASGI server. Nothing is imported here: ``client`` needs neither torch nor a server.
"""
