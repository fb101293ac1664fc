-- How many tokens a model's provider reports for each one that we count, so that a new process knows it.
create table calibrations (
  model       text primary key,               -- its handle
  ratio       real not null,
  samples     int not null,
  updated_at  timestamptz not null default now(),
  constraint calibration_is_believable check (ratio between 0.5 and 3 and samples > 0)
);
