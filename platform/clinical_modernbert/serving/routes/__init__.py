"""The HTTP routes by the API that they follow."""
