"""The process that serves: its settings, its connections and their bounds, its workers, its log and its end."""
