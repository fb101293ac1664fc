-- The whole database as it is today. `migrations/` is the path to it; a test proves both agree.
--
-- Vocabulary: an agent has conversations, a conversation has messages, a command waits in the inbox,
-- a run is the handling of one command, a step is one model call with its tool calls. Hosts own
-- shards; a shard's fence rises at each claim and is copied to an agent when it is activated.
--
-- Invariants the database itself guards:
--   * one command per (agent, key);  one message per (conversation, position)
--   * labels are unique among the blocks of one agent;  tool names among the tools of one organisation
-- Invariants the one checkpoint statement guards (storage/checkpoints.py): fence, version, blocks; and that
-- a finished run and a finished command have the time of their end and unfinished ones have none. What every
-- message writes has no check of its own: Postgres parses, plans and prepares a table's checks anew at each
-- statement, which took a seventh of what its backend did for a message. Those of domains it keeps.
--
-- What a message writes has no foreign key: each costs a query of its own at every row. `messages`, `runs`,
-- `inbox` and `steps` come and go with their agent, whose row, or its conversation's, their writers hold
-- against its deletion; the deletion takes them along (storage/edits.py). A writer that does not make the
-- parent in the same statement reads its id from the parent, so where there is none the column is null, which
-- it may not be. It finds the parent by its key alone, or the planner may read an agent's every run by the
-- index of their age.

-- Values from a closed list or range. Domains, because a table's check is prepared again at every statement.
create domain message_role as text constraint message_role_is_known
  check (value in ('system', 'user', 'assistant', 'tool', 'approval', 'summary'));
create domain run_status as text constraint run_status_is_known
  check (value in ('created', 'running', 'completed', 'failed', 'cancelled'));
create domain command_state as text constraint inbox_state_is_known
  check (value in ('new', 'applied', 'done', 'dead'));
create domain step_status as text constraint step_status_is_known
  check (value in ('pending', 'success', 'failed', 'cancelled'));
create domain agent_shard as int constraint agent_shard_is_in_range check (value between 0 and 4095);

create table organizations (
  id          text primary key,
  name        text not null,
  created_at  timestamptz not null default now()
);

create table hosts (
  name         text primary key,
  instance     text not null,                 -- one process's life; a restart has a new one
  lease_until  timestamptz not null,
  started_at   timestamptz not null default now()
);

create table shards (
  shard  int primary key,
  host   text constraint shard_owner_is_a_host references hosts (name) on delete set null,
  fence  bigint not null default 0,
  constraint shard_is_in_range check (shard between 0 and 4095)
) with (fillfactor = 50);

-- How many tokens a model's provider reports for each one that we count, so that a new process knows it.
create table calibrations (
  model       text primary key,               -- its handle
  ratio       real not null,
  samples     int not null,
  updated_at  timestamptz not null default now(),
  constraint calibration_is_believable check (ratio between 0.5 and 3 and samples > 0)
);

create table agents (
  id                     text primary key,
  organization_id        text not null constraint agent_has_an_organization references organizations (id),
  name                   text not null,
  tags                   text[] not null default '{}',
  hidden                 boolean not null default false,
  settings               jsonb not null,      -- records.AgentSettings
  shard                  agent_shard not null,
  fence                  bigint not null default 0,
  version                bigint not null default 0,
  checkpoint_id          text,                -- the last commit; resolves one whose answer was lost
  last_stop_reason       text,
  last_run_completed_at  timestamptz,
  last_run_duration_ms   int,
  created_at             timestamptz not null default now(),
  updated_at             timestamptz not null default now(),
  created_by_id          text,
  last_updated_by_id     text
) with (fillfactor = 50, toast_tuple_target = 128);
-- A checkpoint updates this row at every step: settings of a row above 2 KB go out of line, and are then
-- not rewritten.
alter table agents alter column settings set storage external;
create index agents_by_age on agents (organization_id, created_at, id);
create index agents_by_tag on agents using gin (tags);

create table blocks (
  id                  text primary key,
  organization_id     text not null constraint block_has_an_organization references organizations (id),
  label               text not null,
  value               text not null,
  limit_chars         int not null,
  description         text,
  read_only           boolean not null default false,
  metadata            jsonb not null default '{}',
  hidden              boolean not null default false,
  tags                text[] not null default '{}',
  project_id          text,
  template            jsonb not null default '{}',
  version             bigint not null default 0,
  created_at          timestamptz not null default now(),
  updated_at          timestamptz not null default now(),
  created_by_id       text,
  last_updated_by_id  text
);
create index blocks_by_age on blocks (organization_id, created_at, id);
create index blocks_by_label on blocks (organization_id, label);

create table agents_blocks (
  agent_id  text not null constraint attachment_has_an_agent references agents (id) on delete cascade,
  block_id  text not null constraint attachment_has_a_block references blocks (id) on delete cascade,
  label     text not null,
  ordinal   int not null,
  primary key (agent_id, block_id),
  constraint block_label_is_unique_per_agent unique (agent_id, label)
);
create index agents_by_block on agents_blocks (block_id);

create table tools (
  id                 text primary key,
  organization_id    text not null constraint tool_has_an_organization references organizations (id),
  name               text not null,
  tool_type          text not null,
  description        text not null,
  json_schema        jsonb not null,
  tags               text[] not null default '{}',
  return_char_limit  int not null default 50000,
  default_requires_approval boolean,          -- whether agents that are given it ask before they call it
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now(),
  constraint tool_name_is_unique unique (organization_id, name)
);

create table agents_tools (
  agent_id  text not null constraint tool_user_is_an_agent references agents (id) on delete cascade,
  tool_id   text not null constraint tool_used_exists references tools (id) on delete cascade,
  ordinal   int not null,
  primary key (agent_id, tool_id)
);
create index agents_by_tool on agents_tools (tool_id);

create table conversations (
  id               text primary key,          -- the default conversation has its agent's id
  organization_id  text not null,
  agent_id         text not null constraint conversation_has_an_agent references agents (id) on delete cascade,
  parent_id        text,                      -- a fork has both, any other neither
  parent_position  bigint,
  from_position    bigint not null default 1, -- the window is [from_position, end_position), in this order
  end_position     bigint not null default 1,
  summary_position bigint,                    -- the message that stands for what is before the window
  summary          text,
  description      text,
  model            text,
  model_settings   jsonb,
  last_message_at  timestamptz,
  archived_at      timestamptz,
  created_at       timestamptz not null default now(),
  updated_at       timestamptz not null default now(),
  deleted_at       timestamptz
) with (fillfactor = 70);
create index conversations_by_agent on conversations (agent_id, created_at, id);
create index conversations_by_age on conversations (organization_id, created_at, id) where id <> agent_id;

-- Words of what people and the model said, and the agent's id as one more word, so that one index finds
-- an agent's messages by meaning of words without a scan over other agents'. A tsvector holds at most
-- 1 MiB, or the insert fails: of longer texts the start of the first one can be found. Writers of messages
-- call it: a generated column would have its expression read and planned again at every insert.
create function words_of(role text, content jsonb, agent_id text) returns tsvector
language sql immutable parallel safe as $$
  select case when role not in ('user', 'assistant', 'summary') then null
         -- One text, as nearly every message is: the same words for less.
         when jsonb_array_length(content) = 1 and octet_length(content #>> '{0,text}') <= 100000 then
           to_tsvector('english', content #>> '{0,text}') || array_to_tsvector(array[agent_id])
         else
           case when octet_length(jsonb_path_query_array(content, '$[*].text')::text) <= 250000
             then to_tsvector('english', jsonb_path_query_array(content, '$[*].text'))
             else to_tsvector('english', left(jsonb_path_query_first(content, '$[*].text') #>> '{}', 100000)) end
           -- What an agent says by calling send_message: its argument, which may be cut off or no JSON.
           || case when content @> '[{"type": "tool_call", "name": "send_message"}]'
                then to_tsvector('english', coalesce(replace(substring(left(
                       jsonb_path_query_first(content, '$[*] ? (@.name == "send_message").arguments') #>> '{}',
                       100000) from '"message"\s*:\s*"((?:[^"\\]|\\.)*)'), '\n', ' '), ''))
                else ''::tsvector end
           || array_to_tsvector(array[agent_id]) end
$$;

create table messages (
  id               text primary key,
  conversation_id  text not null,
  position         bigint not null,           -- 0 is the system prompt
  agent_id         text not null,
  organization_id  text not null,
  role             message_role not null,
  content          jsonb not null,            -- array of records.Part
  name             text,
  otid             text,
  sender_id        text,
  run_id           text,
  step_id          text,
  tokens           int not null default 0,
  excluded         boolean not null default false,
  interrupted      boolean not null default false,
  created_at       timestamptz not null default now(),
  constraint message_position_is_unique unique (conversation_id, position)
);
create index messages_by_run on messages (run_id) where run_id is not null;
create index messages_by_otid on messages (conversation_id, otid) where otid is not null;
create index messages_by_age on messages (organization_id, created_at);

-- Conversations as they are. The row of one is written when its window moves, not at every step: the messages
-- from its `end_position` on are later than it, and tell where it ends and when somebody spoke last. Whoever
-- writes either of the two into the row writes both.
create view conversations_now as
select c.id, c.organization_id, c.agent_id, c.parent_id, c.parent_position, c.from_position,
       coalesce(late.position + 1, c.end_position) as end_position, c.summary_position, c.summary, c.description,
       c.model, c.model_settings, coalesce(late.created_at, c.last_message_at) as last_message_at, c.archived_at,
       c.created_at, c.updated_at, c.deleted_at
  from conversations c
  left join lateral (
    select m.position, m.created_at from messages m
     where m.conversation_id = c.id and m.position >= c.end_position
     order by m.position desc limit 1) late on true;

-- What of a message is found by a search: what people and the model said. Not what models are never shown, not
-- heartbeats (which belong to a step), and not questions to this very search.
create function is_said(role text, step_id text, excluded boolean, content jsonb) returns boolean
language sql immutable parallel safe as $$
  select role in ('user', 'assistant', 'summary') and not excluded and (role <> 'user' or step_id is null)
         and (role <> 'assistant' or not content @> '[{"type": "tool_call", "name": "conversation_search"}]')
$$;

-- The words of what was said, with what searches choose by. No step writes them: they are filled in for many
-- messages at once, soon after their commit, and before a search that needs them (storage/words.py).
create table message_words (
  conversation_id  text not null,
  position         bigint not null,
  agent_id         text not null,
  organization_id  text not null,
  role             message_role not null,
  run_id           text,
  created_at       timestamptz not null,
  words            tsvector not null,         -- words_of(role, content, agent_id)
  primary key (conversation_id, position)
);
create index message_words_by_words on message_words using gin (words);

-- The words of a conversation's messages before this position are filled in. One without a row has its first
-- message at 1 still before it. Copies that a fork makes of its parent's messages stand before the fork's: they
-- have no words, so that people find a message once.
create table worded_conversations (
  conversation_id  text primary key,
  position         bigint not null
);

-- Fills in the words of the messages at the next `most` positions of each of these conversations; returns those
-- that have more. One transaction at a time fills, and it reads what is committed when it has the lock. Whoever
-- changes or deletes what it may have read takes the lock in shared mode, after its change and before the words
-- of it. It holds the lock until its commit, and who holds the whole of it waits for nothing else.
create function fill_words(conversation_ids text[], most int) returns setof text
language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtext('wakeful.words'));
  return query
  with behind as materialized (
    select its.id, its.low, least(its.low + most, its.last + 1) as high, its.last
      from (select c.id, coalesce(w.position, 1) as low,
                   (select m.position from messages m
                     where m.conversation_id = c.id and m.position >= coalesce(w.position, 1)
                     order by m.position desc limit 1) as last
              from conversations c left join worded_conversations w on w.conversation_id = c.id
             where c.id = any (conversation_ids)) its
     where its.last is not null
  ), filled as (
    insert into message_words (conversation_id, position, agent_id, organization_id, role, run_id, created_at,
                               words)
    select m.conversation_id, m.position, m.agent_id, m.organization_id, m.role, m.run_id, m.created_at,
           words_of(m.role, m.content, m.agent_id)
      from behind b
      join messages m on m.conversation_id = b.id and m.position >= b.low and m.position < b.high
     where is_said(m.role, m.step_id, m.excluded, m.content)
  ), noted as (
    insert into worded_conversations (conversation_id, position)
    select b.id, b.high from behind b
    on conflict (conversation_id) do update set position = excluded.position
  )
  select b.id from behind b where b.high <= b.last;
end
$$;

-- Lets the words of these messages, as far as they are filled in, say what the messages say now.
create function reword(message_ids text[]) returns void
language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(hashtext('wakeful.words'));
  delete from message_words w
   using messages m
   where m.id = any (message_ids) and w.conversation_id = m.conversation_id and w.position = m.position
     and not is_said(m.role, m.step_id, m.excluded, m.content);
  update message_words w
     set words = words_of(m.role, m.content, m.agent_id)
    from messages m
   where m.id = any (message_ids) and w.conversation_id = m.conversation_id and w.position = m.position;
end
$$;

create table runs (
  id                 text primary key,
  organization_id    text not null,
  agent_id           text not null,
  conversation_id    text not null,
  status             run_status not null default 'created',
  background         boolean not null default false,
  stop_reason        text,
  usage              json not null default '{}',
  request_config     json not null default '{}',
  metadata           jsonb not null default '{}',
  error              json,
  attempt            int not null default 0,  -- activations that worked on it; part of every seq_id
  ttft_ns            bigint,
  total_duration_ns  bigint,
  callback_url       text,
  created_at         timestamptz not null default now(),
  completed_at       timestamptz              -- set exactly when the status is terminal
) with (fillfactor = 70);
create index runs_by_agent on runs (agent_id, created_at, id);
create index runs_by_age on runs (organization_id, created_at, id);

create table inbox (
  seq              bigint generated always as identity primary key,
  agent_id         text not null,
  conversation_id  text not null,
  run_id           text not null,
  key              text not null,             -- idempotency key, kept 24 h after the end
  request_hash     bytea not null,            -- same key, other hash: refused
  caller           text not null,
  command          jsonb not null,            -- an actors.commands Struct
  state            command_state not null default 'new',
  attempts         smallint not null default 0,
  accepted_at      timestamptz not null default now(),
  done_at          timestamptz,               -- set exactly when the state is done or dead
  constraint command_is_accepted_once unique (agent_id, key)
) with (fillfactor = 70);
create index inbox_pending on inbox (agent_id, seq) where state in ('new', 'applied');

create table steps (
  id                     text primary key,
  organization_id        text not null,
  agent_id               text not null,
  run_id                 text not null,
  position               int not null,
  status                 step_status not null,
  model                  text not null,
  provider               text not null,
  context_window_tokens  int not null default 0,
  usage                  json not null default '{}',
  stop_reason            text,
  error                  json,
  timing                 json not null default '{}',
  created_at             timestamptz not null default now()
);
create index steps_by_run on steps (run_id, position);
create index steps_by_agent on steps (agent_id, created_at, id);

create table tool_calls (
  agent_id    text not null,
  step_id     text not null,
  call_id     text not null,
  name        text not null,
  state       text not null,
  updated_at  timestamptz not null default now(),
  primary key (step_id, call_id),
  constraint tool_call_has_an_agent foreign key (agent_id) references agents (id) on delete cascade,
  constraint tool_call_state_is_known
    check (state in ('intended', 'success', 'error', 'interrupted', 'uncertain'))
);
create index tool_calls_open on tool_calls (agent_id) where state = 'intended';
create index tool_calls_by_agent on tool_calls (agent_id);

create table pending_requests (
  conversation_id  text primary key constraint request_has_a_conversation
                     references conversations (id) on delete cascade,
  agent_id         text not null constraint request_has_an_agent references agents (id) on delete cascade,
  organization_id  text not null,
  run_id           text not null,
  step_id          text not null,
  message_id       text not null,             -- the message that shows the calls to clients
  position         bigint not null,           -- of the first message of the step
  calls            jsonb not null,            -- array of pending.PendingCall
  parked           jsonb not null default '[]', -- ids of calls that run after the answer
  client_tools     jsonb not null default '[]', -- array of pending.ClientTool
  created_at       timestamptz not null default now(),
  expires_at       timestamptz not null
);
create index pending_requests_by_agent on pending_requests (agent_id);
create index pending_requests_by_expiry on pending_requests (expires_at);

-- Archival memory. Where the server has pgvector, vectors have its type and are found by index; elsewhere
-- they are arrays that are compared one by one. Its absence, or a user who may not install it, is no error.
do $$
begin
  create extension if not exists vector;
exception when feature_not_supported or undefined_file or insufficient_privilege then
  raise notice 'no pgvector: vectors are compared one by one';
end
$$;

create table archives (
  id                  text primary key,
  organization_id     text not null constraint archive_has_an_organization references organizations (id),
  name                text not null,
  description         text,
  embedding           text,                   -- handle of the model of new passages
  dimensions          int,                    -- how many numbers its vectors have
  metadata            jsonb not null default '{}',
  created_at          timestamptz not null default now(),
  updated_at          timestamptz not null default now(),
  created_by_id       text,
  last_updated_by_id  text
);
create index archives_by_age on archives (organization_id, created_at, id);

create table archives_agents (
  agent_id    text not null constraint archive_user_is_an_agent references agents (id) on delete cascade,
  archive_id  text not null constraint archive_used_exists references archives (id) on delete cascade,
  is_owner    boolean not null default false,
  created_at  timestamptz not null default now(),
  primary key (agent_id, archive_id)
);
create unique index agent_has_one_archive on archives_agents (agent_id) where is_owner;
create index agents_by_archive on archives_agents (archive_id);

create table passages (
  id                  text primary key,
  organization_id     text not null,
  archive_id          text not null constraint passage_has_an_archive references archives (id) on delete cascade,
  text                text not null,
  tags                text[] not null default '{}',
  metadata            jsonb not null default '{}',
  embedding_model     text,
  dimensions          int,
  embeddable          boolean not null default true, -- false: its model has no vector for this text
  created_at          timestamptz not null default now(),
  updated_at          timestamptz not null default now(),
  created_by_id       text,
  last_updated_by_id  text,
  -- Words stemmed and as they stand, for codes; and the archive's id as one more word, so that one index
  -- finds an archive's passages without a scan over other archives'. As for messages, a long text is
  -- found by its start, because a tsvector holds at most 1 MiB.
  words               tsvector generated always as (
                        case when octet_length(text) <= 100000
                          then to_tsvector('english', text) || to_tsvector('simple', text)
                          else to_tsvector('english', left(text, 25000)) || to_tsvector('simple', left(text, 25000))
                        end || array_to_tsvector(array[archive_id])) stored,
  constraint passage_names_the_model_of_its_vector check ((embedding_model is null) = (dimensions is null))
);
create index passages_by_age on passages (archive_id, created_at, id);
create index passages_by_organization on passages (organization_id, created_at, id);
create index passages_by_words on passages using gin (words);
create index passages_by_tag on passages using gin (tags);
-- What waits for its vector, by archive: see storage/unembedded.py.
create index passages_unembedded on passages (archive_id, created_at, id) where dimensions is null and embeddable;

-- Vectors of any model stand in one column, in the row itself: a search that compares a whole archive would
-- else fetch each from elsewhere. Each length has an index of its own; that of the local model is made here,
-- others when they are first needed (storage/passage_indexes.py).
do $$
begin
  if to_regtype('vector') is not null then
    alter table passages add column embedding vector;
    create index passages_by_meaning_384 on passages using hnsw ((embedding::vector(384)) vector_cosine_ops)
     where dimensions = 384;
  else
    alter table passages add column embedding real[];
  end if;
  alter table passages
    alter column embedding set storage main,
    add constraint passage_knows_the_length_of_its_vector check ((embedding is null) = (dimensions is null));
end
$$;

-- The one writer of steps. It decides nothing but whether a step may be written, and writes several
-- agents' steps in one round trip; every argument is an array of rows, each with its `agent_id`.
--
-- Fencing: an agent whose fence or version is not the one named belongs to a newer owner, and nothing of
-- its step is written; nor is a step whose command is over already, so no command is handled twice.
-- Blocks are locked after agents (the lock order of the package) and compared; of two steps in one call
-- that write the same block the second is stale, because one update would silently drop one of them.
-- A function, because one statement with a branch for each table costs Postgres twice as much.
create function commit_steps(heads json, message_rows json, run_rows json, inbox_rows json, window_rows json,
                             step_rows json, block_rows json, rewrite_rows json, call_rows json)
returns table (agent_id text, owned boolean, stale text[])
language plpgsql as $$
#variable_conflict use_column
declare
  mine  text[];                               -- agents that this caller owns
  ok    text[];                               -- those whose step is written
  late  record;                               -- one whose blocks changed meanwhile
begin
  select array_agg(held.id) into mine
    from (select a.id
            from json_to_recordset(heads) as i (agent_id text, fence bigint, version bigint)
            join agents a on a.id = i.agent_id
           where a.fence = i.fence and a.version = i.version
           order by a.id
             for no key update of a) held
   where held.id not in (
     select u.agent_id
       from json_to_recordset(inbox_rows) as u (agent_id text, seq bigint)
      -- A subquery, or the planner may read every finished command by the partial index instead of one row.
      where (select x.state from inbox x where x.seq = u.seq) in ('done', 'dead'));
  ok := mine;

  if block_rows is not null then
    perform 1
       from blocks b
      where b.id in (select w.id from json_to_recordset(block_rows) as w (id text))
      order by b.id
        for no key update;
    for late in
      select w.agent_id, array_agg(w.id) as ids
        from (select w.agent_id, w.id, w.version, row_number() over (partition by w.id order by w.agent_id) as turn
                from json_to_recordset(block_rows) as w (agent_id text, id text, version bigint)
               where w.agent_id = any (mine)) w
        left join blocks b on b.id = w.id
       where b.version is distinct from w.version or w.turn > 1
       group by w.agent_id
    loop
      ok := array_remove(ok, late.agent_id);
      agent_id := late.agent_id; owned := true; stale := late.ids;
      return next;
    end loop;
    update blocks b
       set value = w.value, version = b.version + 1, updated_at = now()
      from json_to_recordset(block_rows) as w (agent_id text, id text, value text)
     where b.id = w.id and w.agent_id = any (ok);
  end if;

  update agents a
     set version = a.version + 1, checkpoint_id = i.id,
         last_stop_reason = coalesce(i.stop_reason, a.last_stop_reason),
         last_run_completed_at = case when i.stop_reason is null then a.last_run_completed_at else now() end,
         last_run_duration_ms = coalesce(i.duration_ms, a.last_run_duration_ms)
    from json_to_recordset(heads) as i (id text, agent_id text, stop_reason text, duration_ms int)
   where a.id = i.agent_id and i.agent_id = any (ok);

  insert into messages (id, conversation_id, position, agent_id, organization_id, role, content, name, otid,
                        sender_id, run_id, step_id, tokens, excluded, interrupted, created_at)
  select m.id,
         (select case when c.agent_id = m.agent_id then c.id end from conversations c where c.id = m.conversation_id),
         m.position, m.agent_id, m.organization_id, m.role, m.content, m.name,
         m.otid, m.sender_id, m.run_id, m.step_id, m.tokens, m.excluded, m.interrupted, m.created_at
    from json_to_recordset(message_rows) as m (
           id text, conversation_id text, position bigint, agent_id text, organization_id text, role text,
           content jsonb, name text, otid text, sender_id text, run_id text, step_id text, tokens int,
           excluded boolean, interrupted boolean, created_at timestamptz)
   where m.agent_id = any (ok);

  update runs r
     set status = u.status, usage = u.usage, stop_reason = u.stop_reason, error = u.error,
         completed_at = case when u.status in ('completed', 'failed', 'cancelled')
                         then coalesce(u.completed_at, now()) end,
         ttft_ns = coalesce(r.ttft_ns, u.ttft_ns),
         total_duration_ns = u.total_duration_ns
    from json_to_recordset(run_rows) as u (
           id text, agent_id text, status text, usage json, stop_reason text, error json,
           completed_at timestamptz, ttft_ns bigint, total_duration_ns bigint)
   where r.id = u.id and u.agent_id = any (ok) and r.status not in ('completed', 'failed', 'cancelled');

  update inbox x
     set state = u.state, attempts = 0, done_at = case when u.state in ('done', 'dead') then now() end
    from json_to_recordset(inbox_rows) as u (agent_id text, seq bigint, state text)
   where x.seq = u.seq and u.agent_id = any (ok);

  update conversations c
     set from_position = u.from_position, end_position = u.end_position, last_message_at = now(),
         summary_position = nullif(coalesce(u.summary_position, c.summary_position), 0)
    from json_to_recordset(window_rows) as u (
           agent_id text, id text, from_position bigint, end_position bigint, summary_position bigint,
           only_grows boolean)
   where c.id = u.id and u.agent_id = any (ok) and not u.only_grows;

  insert into steps (id, organization_id, agent_id, run_id, position, status, model, provider,
                     context_window_tokens, usage, stop_reason, error, timing, created_at)
  select s.id, s.organization_id, s.agent_id,
         (select case when r.agent_id = s.agent_id then r.id end from runs r where r.id = s.run_id),
         s.position, s.status, s.model, s.provider,
         s.context_window_tokens, s.usage, s.stop_reason, s.error, s.timing, s.created_at
    from json_to_recordset(step_rows) as s (
           id text, organization_id text, agent_id text, run_id text, position int, status text, model text,
           provider text, context_window_tokens int, usage json, stop_reason text, error json, timing json,
           created_at timestamptz)
   where s.agent_id = any (ok)
  on conflict (id) do update
     set status = excluded.status, usage = excluded.usage, stop_reason = excluded.stop_reason,
         error = excluded.error, timing = excluded.timing;

  if rewrite_rows is not null then
    update messages m
       set content = coalesce(w.content, m.content), tokens = coalesce(w.tokens, m.tokens),
           excluded = coalesce(w.excluded, m.excluded)
      from json_to_recordset(rewrite_rows) as w (
             agent_id text, id text, content jsonb, tokens int, excluded boolean)
     where m.id = w.id and w.agent_id = any (ok);
    -- Nearly every rewrite is of a system prompt, at 0, which has no words.
    perform reword(array_agg(m.id))
       from json_to_recordset(rewrite_rows) as w (agent_id text, id text) join messages m on m.id = w.id
      where w.agent_id = any (ok) and m.position > 0
     having count(*) > 0;
  end if;

  if call_rows is not null then
    insert into tool_calls (agent_id, step_id, call_id, name, state)
    select t.agent_id, t.step_id, t.call_id, t.name, t.state
      from json_to_recordset(call_rows) as t (
             agent_id text, step_id text, call_id text, name text, state text)
     where t.agent_id = any (ok)
    on conflict (step_id, call_id) do update set state = excluded.state, updated_at = now();
  end if;

  return query
    select i.agent_id, coalesce(i.agent_id = any (mine), false), null::text[]
      from json_to_recordset(heads) as i (agent_id text)
     where i.agent_id = any (ok) or (i.agent_id = any (mine)) is not true;
end
$$;

-- What of a message its step does not say. Rows of a type: a third of what as many in JSON cost to read.
create type message_row as (
  id          text,
  position    bigint,
  role        text,
  content     jsonb,
  name        text,
  otid        text,
  sender_id   text,
  step_id     text,
  tokens      int,
  created_at  timestamptz
);

-- What `commit_steps` does, for one agent's step with one run and one model call: nearly every step of a server
-- that is not busy. Scalars in place of arrays of rows halve what such a step costs Postgres; what only some
-- steps have comes as rows, or as null. `step_is_known` says that the step's row may be there, from an earlier
-- commit that left the step open; an insert that need not look for it costs less. Returns null to a caller that does not own the agent, the ids of blocks
-- that changed meanwhile, or none of them; only then is anything written.
create function commit_step(step_agent text, of_fence bigint, of_version bigint, checkpoint text, reason text,
                            duration_ms int, message_rows message_row[], run text, run_status text, run_usage json,
                            run_error json, run_completed timestamptz, run_ttft bigint, run_total bigint,
                            command_seq bigint, command_state text, window_id text, window_from bigint,
                            window_end bigint, window_summary bigint, step text, organization text,
                            step_position int, step_status text, step_model text, step_provider text,
                            step_window int, step_usage json,
                            step_reason text, step_error json, step_timing json, step_created timestamptz,
                            step_is_known boolean, block_rows json, rewrite_rows json, call_rows json)
returns text[]
language plpgsql as $$
declare
  home    text;                               -- the conversation, if it is the agent's
  parent  text;                               -- the run, if it is the agent's
  stale   text[];                             -- blocks that changed meanwhile
begin
  if block_rows is not null then              -- compared before anything is written
    perform 1
       from agents a
      where a.id = step_agent and a.fence = of_fence and a.version = of_version
        for no key update;
    if not found then
      return null;
    end if;
    perform 1
       from blocks b
      where b.id in (select w.id from json_to_recordset(block_rows) as w (id text))
      order by b.id
        for no key update;
    select array_agg(w.id) into stale
      from json_to_recordset(block_rows) as w (id text, version bigint)
      left join blocks b on b.id = w.id
     where b.version is distinct from w.version;
    if stale is not null then
      return stale;
    end if;
  end if;

  update agents a
     set version = a.version + 1, checkpoint_id = checkpoint,
         last_stop_reason = coalesce(reason, a.last_stop_reason),
         last_run_completed_at = case when reason is null then a.last_run_completed_at else now() end,
         last_run_duration_ms = coalesce(duration_ms, a.last_run_duration_ms)
   where a.id = step_agent and a.fence = of_fence and a.version = of_version
     and (select x.state from inbox x where x.seq = command_seq) in ('new', 'applied');
  if not found then
    return null;
  end if;

  if block_rows is not null then
    update blocks b
       set value = w.value, version = b.version + 1, updated_at = now()
      from json_to_recordset(block_rows) as w (id text, value text)
     where b.id = w.id;
  end if;

  update runs r
     set status = run_status, usage = run_usage, stop_reason = reason, error = run_error,
         completed_at = case when run_status in ('completed', 'failed', 'cancelled')
                         then coalesce(run_completed, now()) end,
         ttft_ns = coalesce(r.ttft_ns, run_ttft), total_duration_ns = run_total
   where r.id = run and r.agent_id = step_agent and r.status in ('created', 'running')
  returning r.id, r.conversation_id into parent, home;
  if not found then
    -- It is over already: what it was when the step began counts for the step alone.
    select r.id, r.conversation_id into parent, home from runs r where r.id = run and r.agent_id = step_agent;
  end if;

  if window_from is not null then
    update conversations c
       set from_position = window_from, end_position = window_end, last_message_at = now(),
           summary_position = nullif(coalesce(window_summary, c.summary_position), 0)
     where c.id = window_id and c.agent_id = step_agent
    returning c.id into home;
  elsif home is distinct from window_id then
    select c.id into home from conversations c where c.id = window_id and c.agent_id = step_agent;
  end if;

  insert into messages (id, conversation_id, position, agent_id, organization_id, role, content, name, otid,
                        sender_id, run_id, step_id, tokens, created_at)
  select m.id, home, m.position, step_agent, organization, m.role, m.content, m.name, m.otid, m.sender_id,
         run, m.step_id, m.tokens, m.created_at
    from unnest(message_rows) as m;

  update inbox x
     set state = command_state, attempts = 0,
         done_at = case when command_state in ('done', 'dead') then now() end
   where x.seq = command_seq;

  if step_is_known then
    update steps s
       set status = step_status, usage = step_usage, stop_reason = step_reason, error = step_error,
           timing = step_timing
     where s.id = step and s.agent_id = step_agent;
    step_is_known := found;
  end if;
  if not step_is_known then
    insert into steps (id, organization_id, agent_id, run_id, position, status, model, provider,
                       context_window_tokens, usage, stop_reason, error, timing, created_at)
    values (step, organization, step_agent, parent, step_position, step_status, step_model, step_provider,
            step_window, step_usage, step_reason, step_error, step_timing, step_created);
  end if;

  if rewrite_rows is not null then
    update messages m
       set content = coalesce(w.content, m.content), tokens = coalesce(w.tokens, m.tokens),
           excluded = coalesce(w.excluded, m.excluded)
      from json_to_recordset(rewrite_rows) as w (id text, content jsonb, tokens int, excluded boolean)
     where m.id = w.id;
    -- Nearly every rewrite is of a system prompt, at 0, which has no words.
    perform reword(array_agg(m.id))
       from json_to_recordset(rewrite_rows) as w (id text) join messages m on m.id = w.id
      where m.position > 0
     having count(*) > 0;
  end if;

  if call_rows is not null then
    insert into tool_calls (agent_id, step_id, call_id, name, state)
    select t.agent_id, t.step_id, t.call_id, t.name, t.state
      from json_to_recordset(call_rows) as t (
             agent_id text, step_id text, call_id text, name text, state text)
    on conflict (step_id, call_id) do update set state = excluded.state, updated_at = now();
  end if;
  return '{}';
end
$$;

insert into organizations (id, name)
values ('org-00000000-0000-4000-8000-000000000000', 'default');
insert into shards (shard) select generate_series(0, 4095);
