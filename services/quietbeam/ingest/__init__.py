"""Documents in, rows of counts out: publishers for the RunEngine's side, sources, profiles, assembly, the stage."""
