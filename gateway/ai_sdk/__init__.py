"""The AI SDK UI message stream: a reducer of a run's events, and what `useChat` sends and reads back."""
