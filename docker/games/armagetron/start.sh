#!/bin/sh
# Armagetron takes its settings from files only. Each argument is one line of its configuration; then
# the game takes this shell's place, so that it is pid 1. A person's own settings go to
# /data/config/settings_custom.cfg; the ones given here win.
set -e
mkdir -p /data/config /data/var
printf '%s\n' "$@" > /data/config/given.cfg
exec /usr/games/armagetronad-dedicated.real \
    --datadir /usr/share/games/armagetronad --configdir /etc/armagetronad \
    --userconfigdir /data/config --vardir /data/var --extraconfig given.cfg
