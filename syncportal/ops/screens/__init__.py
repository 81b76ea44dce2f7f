"""The admin's pages about connections: remotes, resources, what changed in their configuration."""
