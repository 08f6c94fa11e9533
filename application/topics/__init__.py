"""Usage from the topics of a broker that speaks Kafka's protocol."""
