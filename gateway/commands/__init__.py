"""What the commands do that ask a running server; `gateway.cli` and `gateway.cli_agents` name them."""
