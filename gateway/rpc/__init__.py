"""The methods of the websocket: one file a noun, one table that names them all."""
