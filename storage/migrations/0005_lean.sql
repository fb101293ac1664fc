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

-- What is filled in already moves: nothing is left to be filled in, so searches find all from the start.
insert into message_words (conversation_id, position, agent_id, organization_id, role, run_id, created_at, words)
select m.conversation_id, m.position, m.agent_id, m.organization_id, m.role, m.run_id, m.created_at, m.search
  from messages m
 where m.search is not null and is_said(m.role, m.step_id, m.excluded, m.content);
create index message_words_by_words on message_words using gin (words);
insert into worded_conversations (conversation_id, position)
select c.id, c.end_position from conversations c where c.end_position > 1;
alter table messages drop column search;        -- and its index

-- Statements that write a step take documents which no statement looks into as they come.
alter table runs
  alter column usage drop default, alter column request_config drop default;
alter table runs
  alter column usage type json using usage::json, alter column usage set default '{}',
  alter column request_config type json using request_config::json, alter column request_config set default '{}',
  alter column error type json using error::json;
alter table steps
  alter column usage drop default, alter column timing drop default;
alter table steps
  alter column usage type json using usage::json, alter column usage set default '{}',
  alter column timing type json using timing::json, alter column timing set default '{}',
  alter column error type json using error::json;
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

drop function commit_steps;
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

drop function commit_step;
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
