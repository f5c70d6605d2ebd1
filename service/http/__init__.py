"""HTTP around the routes: one connection, one shape of errors, a short way, no request carried out twice."""
