"""What subscribers of the websocket's channels get: the event logs, encoded once for all of them.

`feeds` opens, reads and places a channel for a caller whom `channel_access` lets in. Behind it stand
`conversation` and `agent` (events of the logs, kept by `logs` and `shelf`), `state` with `states`
(snapshots and patches), `fleet` and `user`. A feed makes one `frames.Frame` of an event when its first
subscriber needs it and hands the same bytes to all; `choices` and `shown_events` say who gets which.
What one answer should not hold, `catching_up` and `fleet_pieces` give piece by piece, as the peer reads.
"""
