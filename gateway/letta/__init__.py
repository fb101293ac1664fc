"""The shapes of Letta's clients: pure functions from records and events to the JSON that they expect."""
