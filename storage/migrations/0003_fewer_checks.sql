-- What every message writes has no check of its own any more: Postgres parses, plans and prepares a table's
-- checks anew at each statement. The statements that write a step keep what the checks said; a shard's range
-- is its domain's. The index of finished commands goes, too: they are purged in the order of their arrival.
create domain agent_shard as int constraint agent_shard_is_in_range check (value between 0 and 4095);
alter table agents drop constraint agent_shard_is_in_range;
alter table agents alter column shard type agent_shard;
alter table conversations drop constraint window_is_ordered, drop constraint fork_names_its_position;
alter table runs drop constraint finished_run_has_its_time;
alter table inbox drop constraint finished_command_has_its_time;
drop index inbox_finished;

-- One text has a short way to its words; their value is the same.

create or replace function words_of(role text, content jsonb, agent_id text) returns tsvector
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

create or replace function commit_steps(heads json, message_rows json, run_rows json, inbox_rows json, window_rows json,
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
                        sender_id, run_id, step_id, tokens, excluded, interrupted, created_at, search)
  select m.id,
         (select case when c.agent_id = m.agent_id then c.id end from conversations c where c.id = m.conversation_id),
         m.position, m.agent_id, m.organization_id, m.role, m.content, m.name,
         m.otid, m.sender_id, m.run_id, m.step_id, m.tokens, m.excluded, m.interrupted, m.created_at,
         words_of(m.role, m.content, m.agent_id)
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
           id text, agent_id text, status text, usage jsonb, stop_reason text, error jsonb,
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
           agent_id text, id text, from_position bigint, end_position bigint, summary_position bigint)
   where c.id = u.id and u.agent_id = any (ok);

  insert into steps (id, organization_id, agent_id, run_id, position, status, model, provider,
                     context_window_tokens, usage, stop_reason, error, timing, created_at)
  select s.id, s.organization_id, s.agent_id,
         (select case when r.agent_id = s.agent_id then r.id end from runs r where r.id = s.run_id),
         s.position, s.status, s.model, s.provider,
         s.context_window_tokens, s.usage, s.stop_reason, s.error, s.timing, s.created_at
    from json_to_recordset(step_rows) as s (
           id text, organization_id text, agent_id text, run_id text, position int, status text, model text,
           provider text, context_window_tokens int, usage jsonb, stop_reason text, error jsonb, timing jsonb,
           created_at timestamptz)
   where s.agent_id = any (ok)
  on conflict (id) do update
     set status = excluded.status, usage = excluded.usage, stop_reason = excluded.stop_reason,
         error = excluded.error, timing = excluded.timing;

  if rewrite_rows is not null then
    update messages m
       set content = coalesce(w.content, m.content), tokens = coalesce(w.tokens, m.tokens),
           excluded = coalesce(w.excluded, m.excluded),
           search = case when w.content is null then m.search else words_of(m.role, w.content, m.agent_id) end
      from json_to_recordset(rewrite_rows) as w (
             agent_id text, id text, content jsonb, tokens int, excluded boolean)
     where m.id = w.id and w.agent_id = any (ok);
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

-- Its arguments and its result are others now.
drop function commit_step;
create function commit_step(step_agent text, of_fence bigint, of_version bigint, checkpoint text, reason text,
                            duration_ms int, message_rows json, run text, run_status text, run_usage jsonb,
                            run_error jsonb, run_completed timestamptz, run_ttft bigint, run_total bigint,
                            command_seq bigint, command_state text, window_id text, window_from bigint,
                            window_end bigint, window_summary bigint, step text, organization text,
                            step_position int, step_status text, step_model text, step_provider text,
                            step_window int, step_usage jsonb,
                            step_reason text, step_error jsonb, step_timing jsonb, step_created timestamptz,
                            block_rows json, rewrite_rows json, call_rows json)
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

  update conversations c
     set from_position = window_from, end_position = window_end, last_message_at = now(),
         summary_position = nullif(coalesce(window_summary, c.summary_position), 0)
   where c.id = window_id and c.agent_id = step_agent;
  if found then
    home := window_id;
  end if;

  insert into messages (id, conversation_id, position, agent_id, organization_id, role, content, name, otid,
                        sender_id, run_id, step_id, tokens, created_at, search)
  select m.id, home, m.position, step_agent, organization, m.role, m.content, m.name, m.otid, m.sender_id,
         run, m.step_id, coalesce(m.tokens, 0), m.created_at, words_of(m.role, m.content, step_agent)
    from json_to_recordset(message_rows) as m (
           id text, position bigint, role text, content jsonb, name text, otid text, sender_id text,
           step_id text, tokens int, created_at timestamptz);

  update runs r
     set status = run_status, usage = run_usage, stop_reason = reason, error = run_error,
         completed_at = case when run_status in ('completed', 'failed', 'cancelled')
                         then coalesce(run_completed, now()) end,
         ttft_ns = coalesce(r.ttft_ns, run_ttft), total_duration_ns = run_total
   where r.id = run and r.agent_id = step_agent and r.status in ('created', 'running');
  if found then
    parent := run;
  else
    -- It is over already: what it was when the step began counts for the step alone.
    select r.id into parent from runs r where r.id = run and r.agent_id = step_agent;
  end if;

  update inbox x
     set state = command_state, attempts = 0,
         done_at = case when command_state in ('done', 'dead') then now() end
   where x.seq = command_seq;

  insert into steps (id, organization_id, agent_id, run_id, position, status, model, provider,
                     context_window_tokens, usage, stop_reason, error, timing, created_at)
  values (step, organization, step_agent, parent, step_position, step_status, step_model, step_provider,
          step_window, step_usage, step_reason, step_error, step_timing, step_created)
  on conflict (id) do update
     set status = excluded.status, usage = excluded.usage, stop_reason = excluded.stop_reason,
         error = excluded.error, timing = excluded.timing;

  if rewrite_rows is not null then
    update messages m
       set content = coalesce(w.content, m.content), tokens = coalesce(w.tokens, m.tokens),
           excluded = coalesce(w.excluded, m.excluded),
           search = case when w.content is null then m.search else words_of(m.role, w.content, m.agent_id) end
      from json_to_recordset(rewrite_rows) as w (id text, content jsonb, tokens int, excluded boolean)
     where m.id = w.id;
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
