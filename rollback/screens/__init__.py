"""The admin's pages about grouped updates and compensating tasks."""
