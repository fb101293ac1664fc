"""Letta's REST routes: a route lives in the file of the last noun of its path.

Each module exports `ROUTES`; `routes.py` puts them together. Endpoints hold no `try` and no status
codes: they decode, ask storage or the agent, and return JSON.
"""
