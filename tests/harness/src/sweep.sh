#!/bin/sh
# Removes what clusters leave on a machine. One program for all three occasions, so that they cannot differ:
#   sweep.sh cluster DIR     a cluster is dropped
#   sweep.sh watch RUN       end of file on stdin: the process that owned the run is gone, whatever ended it
#   sweep.sh dead ROOT       the runs under ROOT whose processes are gone (their watcher was killed, too)
# A cluster writes into DIR/ledger what it is about to make, before it makes it:
#   pid-NAME "PID STARTTIME" · netns-NAME · link-NAME · mount-N "PATH" · cgroup-N "NAME"
set -u
PATH=$PATH:/usr/sbin:/sbin

# started PID: the start time of a process, in clock ticks; with the number it names a process for ever.
started() {
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
    # shellcheck disable=SC2086 # split into fields
    set -- ${stat##*) }
    [ "$1" != Z ] || return 1
    echo "${20}"
}

alive() { [ "$(started "$1")" = "$2" ]; }

kill_recorded() {
    for record in "$1"/pid-*; do
        [ -f "$record" ] || continue
        # Just opened and not yet written: the process is there already.
        tries=0
        while [ ! -s "$record" ] && [ $tries -lt 40 ]; do
            sleep 0.05
            tries=$((tries + 1))
        done
        read -r pid start <"$record" || continue
        alive "$pid" "$start" && kill -9 -- "-$pid" 2>/dev/null
        alive "$pid" "$start" && kill -9 "$pid" 2>/dev/null
    done
    for record in "$1"/pid-*; do
        [ -f "$record" ] || continue
        read -r pid start <"$record" || continue
        tries=0
        while alive "$pid" "$start" && [ $tries -lt 100 ]; do
            sleep 0.05
            tries=$((tries + 1))
        done
    done
}

remove_cgroups() {
    for record in "$1"/cgroup-*; do
        [ -f "$record" ] || continue
        read -r name <"$record" || continue
        # The names are ours: cattle-…; never walk anything else.
        case $name in cattle-*) ;; *) continue ;; esac
        for group in /sys/fs/cgroup/"$name" /sys/fs/cgroup/*/"$name"; do
            [ -d "$group" ] || continue
            tries=0
            while [ -d "$group" ] && [ $tries -lt 60 ]; do
                find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null | while read -r pid; do
                    kill -9 "$pid" 2>/dev/null
                done
                find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
                [ -d "$group" ] && sleep 0.05
                tries=$((tries + 1))
            done
        done
    done
}

cluster() {
    # Nothing can be started in this cluster from here on: whoever tries to write itself down finds no ledger.
    ledger=$1/swept
    mv "$1/ledger" "$ledger" 2>/dev/null
    kill_recorded "$ledger"
    remove_cgroups "$ledger"
    for record in "$ledger"/link-*; do
        [ -f "$record" ] && ip link del "${record##*/link-}" 2>/dev/null
    done
    for record in "$ledger"/netns-*; do
        [ -f "$record" ] && ip netns del "${record##*/netns-}" 2>/dev/null
    done
    for record in "$ledger"/mount-*; do
        [ -f "$record" ] || continue
        read -r path <"$record" && umount -l "$path" 2>/dev/null
    done
    # Something that is still mounted below is not ours to delete through.
    if grep -q " $1/" /proc/self/mounts; then
        awk -v dir="$1/" 'index($2, dir) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r path; do
            umount -l "$path" 2>/dev/null
        done
    fi
    grep -q " $1/" /proc/self/mounts || rm -rf -- "$1" 2>/dev/null || rm -rf -- "$1"
}

run() {
    for directory in "$1"/*/; do
        [ -d "$directory" ] && cluster "${directory%/}"
    done
    rm -rf -- "$1"
}

case $1 in
    cluster) cluster "$2" ;;
    run) run "$2" ;;
    watch)
        cat >/dev/null
        run "$2"
        ;;
    dead)
        for directory in "$2"/run-*-*/; do
            [ -d "$directory" ] || continue
            directory=${directory%/}
            owner=${directory##*/run-}
            alive "${owner%-*}" "${owner#*-}" || run "$directory"
        done
        ;;
esac
