"""Everything that has state, a socket or a user. Imports `training`; `training` never imports it."""
