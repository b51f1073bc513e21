"""What alembic runs to migrate a register; see `nevus.register.register.Register`."""

from alembic import context

from nevus.register.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
