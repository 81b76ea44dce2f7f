"""SyncPortal: keeps records in step with master REST APIs that it does not control."""
