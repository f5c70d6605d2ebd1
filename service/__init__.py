"""Everything that has state, a socket or a user. Imports `training`; `training` never imports it.

From the top down; a module imports from its own room and from below only, which import-linter checks.

    app             the BentoML service: processes, sockets, packaging
    cli             the command `headstart`
    device_process  the process that owns a device
    commands        one file for each command
    worker          what a process that answers requests serves
    api             the REST application
    jobs            long pieces of work for heads, and the worker processes that do them
    routes          one file for each resource of the REST application
    http            around the routes: the connection, errors, the short way, nothing carried out twice
    access          keys and scopes
    engine          everything that a server process holds, built once
    preparation     what is done once before any process serves
    exchange        heads as files, out and in
    moving          heads onto another extractor
    review          checks of the examples of a head, advice on transfer
    learning        changes of a support set, and the version that is learned after each
    prediction      versions in memory and their answers
    inputs          the inputs of a request: embedded, kept, joined to a support set
    embedding       inputs to rows: extractors, and the caches before them
    devices         what extractors run on: cores, GPUs, processes that own one
    waiting         admission, turns at a core, patience of clients, watchers of jobs
    ingest          an HTTP request in, a batch of inputs out
    backup          all of a home as one folder or file, and back
    schemas         what the REST surface takes and gives
    config          every setting
    errors          what clients are told when something fails
    cache, shelf    memory with a bound
    rundir          folders that live as long as a server
    logs, metrics, tracing
    store           what is remembered: tables and blobs
"""
