"""Letta's REST routes: a route lives in the file of the last noun of its path.

Each module exports `ROUTES`; `routes.py` puts them together. Endpoints hold no status codes: they decode,
ask storage or the agent, and return JSON. They catch only what is part of an answer, such as an embedding
model that is away from a search; all else becomes an answer in `gateway.errors`.
"""
