"""The servers that fileupload is compared with: each stores its uploads in the folder ``$BENCH_DIRECTORY``."""
