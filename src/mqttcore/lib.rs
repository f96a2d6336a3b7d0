//! The embedded core: MQTT 5 broker, roles and auth service.
