"""The websocket at `/v1/ws`: frames in, frames out, one state machine per connection.

`websocket` admits a connection and takes its messages by a callback of its `sockets.Socket`. `session`,
pure, says of every frame, answer, publication and tick what is to be sent, begun or closed
(`session_outputs`); `connection` does that work as tasks that end with it. `protocol` decodes commands and
encodes replies; `subscriber` leads publications past the session to a socket that takes them, and
`outbound` writes the others or queues them within bounds; `turns` lets large answers follow one after the
other; `places` counts the connections there may be.
"""
