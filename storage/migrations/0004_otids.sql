-- What a client calls its message finds it in its conversation: front ends say their last messages again.
-- Messages that have no such name, as most of the API's, have no entry and cost nothing.
create index messages_by_otid on messages (conversation_id, otid) where otid is not null;
