#!/bin/sh
# Luanti takes its settings from a file only. Each argument is one line of it and takes the place of an
# older line for the same setting; all else that a person or the game wrote there stays. Then the game
# takes this shell's place, so that it is pid 1.
set -e
touch /data/minetest.conf
for line do
    sed -i "/^${line%%=*}=/d" /data/minetest.conf
    printf '%s\n' "$line" >> /data/minetest.conf
done
# The container's log has the same lines, and debug.txt would grow for ever.
exec /usr/lib/minetest/minetestserver --config /data/minetest.conf --world /data/world --gameid minetest \
    --logfile '' --color never
