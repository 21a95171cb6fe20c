"""What the tasks of labelled images share: sources, views, networks, losses."""
