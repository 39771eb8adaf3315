"""What we are measured beside: each stores what it receives in the folder ``$BENCH_DIRECTORY``."""
