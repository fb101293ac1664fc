"""The tools that agents hold.

`registry` says what each tool is: its name, what models are told about it, and its kind. A call passes
through here in one direction:

    arguments.parse    the model's JSON text becomes checked arguments, or an error text for the model
    memory.edit_of     kind `memory`: the call becomes an edit; the actor applies it, pure, at the step's
                       end under its commit turn, so the result states what was really committed
    conversation …     kind `read`: awaited during the step; looks and changes nothing
    archival …         kind `archive`: what is to be stored is made ready, with its vector, during the
                       step, and committed with it
                       kind `said`: nothing happens; that it was called is all (`send_message`)
    web                kind `read`, too: searches by `exa`, and pages, which `pages` fetches within bounds and
                       never from private networks, and `page_reader` has read by a process of their own
    sandbox            kind `call`: code runs in a sandbox of E2B, never here; its intent is committed first
    results            what the model reads afterwards: exactly one result for each call

What a model gets wrong is never an exception of ours and never an empty `{}`: it is a result with
status `error` whose text names the remedy. A tool with outside effects says so in its spec, because its
intent is committed before it runs.
"""
