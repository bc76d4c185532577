"""The processes of the fleet: slots, gunicorn, the HTTP protocol class. Composes router and fs9."""
