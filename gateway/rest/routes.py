"""The whole route table: every module's routes, in the order in which the documentation lists them."""

from gateway.app import Route
from gateway.rest import (
    agent_files,
    agents,
    archives,
    blocks,
    context,
    conversations,
    docs,
    health,
    message_search,
    messages,
    models,
    passages,
    pending_requests,
    runs,
    steps,
    tools,
)

ROUTES: tuple[Route, ...] = (
    *health.ROUTES,
    *agents.ROUTES,
    *context.ROUTES,
    *agent_files.ROUTES,
    *blocks.ROUTES,
    *tools.ROUTES,
    *pending_requests.ROUTES,
    *archives.ROUTES,
    *passages.ROUTES,
    *messages.ROUTES,
    *message_search.ROUTES,
    *conversations.ROUTES,
    *runs.ROUTES,
    *steps.ROUTES,
    *models.ROUTES,
    *docs.routes_of(lambda: ROUTES),
)
