"""PostgreSQL: the embedded server, connections by role, migrations, staging and publishing."""
