"""The whole route table: every module's routes, in the order in which the documentation lists them."""

from gateway.app import Route
from gateway.rest import agents, blocks, conversations, docs, health, messages, models, runs, steps, tools

ROUTES: tuple[Route, ...] = (
    *health.ROUTES,
    *agents.ROUTES,
    *blocks.ROUTES,
    *tools.ROUTES,
    *messages.ROUTES,
    *conversations.ROUTES,
    *runs.ROUTES,
    *steps.ROUTES,
    *models.ROUTES,
    *docs.routes_of(lambda: ROUTES),
)
