"""The endpoint: the HTTP APIs of OpenAI, TEI and Hugging Face, answered from one scheduler in each replica.

A request passes ``gate`` (keys, limits), a handler in ``routes``, ``service`` (check, tokenise), ``scheduler`` (queue, batches),
``engine`` and ``forward`` (the model). ``app`` deploys it on Ray Serve; any other ASGI server runs ``api``. This file imports
nothing, so that ``client`` loads neither torch nor a server.
"""
