"""Tables that several backends are made from: one fact, one place."""
