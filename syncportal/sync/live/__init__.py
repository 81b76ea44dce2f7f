"""Live events: one reader a process tails the event table and hands what is new to every open stream."""
