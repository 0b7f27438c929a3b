#!/bin/sh
# Makes a machine fit for the lab. Run by the Makefile, before there is any Python of ours.
#
#   lab/bootstrap.sh machine      Python, engine, Compose and base builder are there, and the engine answers
#   lab/bootstrap.sh venv [dev]   .venv holds the lab (dev: and what its tests need, with a C compiler)
#
# On Debian and Ubuntu, as root, what is missing is installed and a stopped engine is started, after saying so;
# LAB_INSTALL=0 forbids both. Anywhere else one message says what is missing and which command mends it (exit 3).
# When nothing is missing it changes nothing and takes a few milliseconds: it looks at files and asks the engine once.
set -eu

root=${LAB_MACHINE_ROOT:-} # tests put a folder with a machine of their own here
socket=$root/var/run/docker.sock
engine_log=$root/var/log/datagram-lab-dockerd.log
engine_file=$root/var/run/docker.pid
containerd_file=$root/var/run/docker/containerd/containerd.pid
PATH=$PATH:$root/usr/sbin:$root/sbin # where an ordinary user has no dockerd on the path

# ---- what is there ------------------------------------------------------------------------------------------

have() { command -v "$1" >/dev/null 2>&1; }

# The tests compile the lab's C programs. The compiler alone is not enough: Debian keeps the C library's headers apart.
have_compiler() { have gcc && [ -e "$root/usr/include/stdio.h" ]; }

# The first Python that is new enough and can make a virtual environment (Debian ships that part apart).
find_python() {
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        if have "$python" && "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
        then return 0; fi
    done
    return 1
}

# A .venv that is whole, was made here (it holds absolute paths) and whose Python is still on the machine.
whole_venv() {
    made_in=
    [ -x .venv/bin/python ] && [ -f .venv/run ] && read -r made_in <.venv/run && [ "$made_in" = "$PWD" ]
}

# Status code of a GET to the engine's socket. Perl is on every Debian and starts in 3 ms, a `docker` command in 50.
ask() {
    [ -S "$socket" ] || return 1
    if ! have perl; then echo 200; return; fi
    # shellcheck disable=SC2016  # the variables are Perl's
    perl -MSocket -e 'alarm 10;
        socket(my $engine, PF_UNIX, SOCK_STREAM, 0) or die;
        connect($engine, pack_sockaddr_un($ARGV[0])) or exit 1;
        syswrite $engine, "GET $ARGV[1] HTTP/1.0\r\nHost: engine\r\n\r\n";
        <$engine> =~ m{^HTTP/\S+ (\d+)} or exit 1;
        print $1' "$socket" "$1" 2>/dev/null
}

engine_answers() { [ "$(ask /_ping)" = 200 ]; }

# Whether the process id in the file $1, put into `pid`, is that of a program $2 that has not ended: a zombie keeps its
# name until somebody collects it.
runs() {
    pid='' name=''
    [ -r "$1" ] || return 1
    read -r pid <"$1" || : # it has no newline at its end
    read -r name 2>/dev/null <"/proc/$pid/comm" && [ "$name" = "$2" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status"
}

# Standalone (any version, needs no `docker` command), or the plugin of the `docker` command, which an engine that is
# to be installed brings along.
have_compose() {
    have docker-compose && return 0
    have docker || [ "$engine" = missing ] || return 1
    have_plugin docker-compose
}

have_plugin() {
    for folder in "${DOCKER_CONFIG:-${HOME:-/root}/.docker}" "$root"/usr/local/lib/docker "$root"/usr/local/libexec/docker \
                  "$root"/usr/lib/docker "$root"/usr/libexec/docker; do
        [ -x "$folder/cli-plugins/$1" ] && return 0
    done
    return 1
}

# LAB_BASE of .env, without quotes and comment, as lab/project/settings.py reads it; of several the last one counts.
base_in_env_file() {
    sed -nE "s/^[[:space:]]*(export[[:space:]]+)?LAB_BASE[[:space:]]*=[[:space:]]*//; t value
        d
        :value
        s/^\"([^\"]*)\".*/\1/p; t
        s/^'([^']*)'.*/\1/p; t
        s/[[:space:]].*//; p" .env 2>/dev/null | tail -n 1
}

# Without a registry the base image is built here. Not needed when it is there, or is to come from elsewhere.
want_builder() {
    if have mmdebstrap || have debootstrap; then return 1; fi
    base=${LAB_BASE-$(base_in_env_file)}
    case ${base:-auto} in auto | build) ;; *) return 1 ;; esac
    [ "$(ask /images/datagram-lab/debian:bookworm/json)" != 200 ]
}

# Whether something else than this machine's own socket is what `docker`, and so the lab, will ask (lab/engine/endpoint.py).
engine_is_elsewhere() {
    [ -z "${DOCKER_HOST:-}" ] || return 0
    context=${DOCKER_CONTEXT:-} settings=${DOCKER_CONFIG:-${HOME:-/root}/.docker}/config.json
    if [ -z "$context" ] && [ -r "$settings" ]; then
        context=$(sed -nE 's/.*"currentContext"[[:space:]]*:[[:space:]]*"([^"]*)".*/\1/p' "$settings")
    fi
    case $context in '' | default) [ -n "${DOCKER_TLS_VERIFY:-}${DOCKER_TLS:-}" ] ;; esac
}

# Sets `needs` to the words among python, engine, compose and builder that are missing here (a compiler is missed only
# by `venv dev`), `engine` to missing,
# stopped, stuck (runs and does not answer), barred (no right to its socket), running, or foreign: DOCKER_HOST or a
# context names it, and the lab itself asks it.
look() {
    needs=
    whole_venv || find_python || needs=python
    engine=running
    if engine_is_elsewhere; then engine=foreign
    elif [ -S "$socket" ] && ! [ -w "$socket" ]; then engine=barred
    elif engine_answers; then :
    elif runs "$engine_file" dockerd; then engine=stuck engine_pid=$pid # it must not be started twice
    elif have dockerd; then engine=stopped
    else engine=missing; needs="$needs engine"; fi
    have_compose || needs="$needs compose"
    if want_builder; then needs="$needs builder"; fi
}

# ---- what would mend it -------------------------------------------------------------------------------------

# Sets `system` to debian (and its children, Ubuntu among them) or other, `release` to its name, `ID` to its own word.
look_at_system() {
    ID='' ID_LIKE='' PRETTY_NAME=''
    # shellcheck disable=SC1091
    if [ -r "$root/etc/os-release" ]; then . "$root/etc/os-release"; fi
    release=${PRETTY_NAME:-this system}
    case " $ID $ID_LIKE " in *" debian "* | *" ubuntu "*) system=debian ;; *) system=other ;; esac
    have apt-get || system=other
}

offered() { apt-cache show "$1" 2>/dev/null | grep -q '^Package:'; }

# The first of the packages that the distribution offers, else the last one.
first_offered() {
    for package in "$@"; do
        if offered "$package"; then break; fi
    done
    echo "$package"
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# Sets `packages` to those that mend `needs` and `reasons` to a line on each.
# Debian's python3 itself comes with python3-venv; where it is too old, a newer one may stand beside it.
choose_packages() {
    packages='' reasons=''
    for need in $needs; do
        case $need in
        python)
            if have python3 && ! new_enough python3; then
                add "$(first_offered python3.14-venv python3.13-venv python3.12-venv python3.11-venv)" \
                    "a newer Python beside $(python3 -V), which is too old (3.11 is needed)"
            else
                add python3-venv "Python's virtual environments: the lab's own code goes into .venv"
            fi ;;
        engine)
            add docker.io "the container engine that runs the hosts"
            if ! have docker && offered docker-cli; then add docker-cli "its command"; fi
            # The engine trusts a registry by these.
            if ! [ -e "$root/etc/ssl/certs/ca-certificates.crt" ]; then
                add ca-certificates "so that the engine can trust a registry"
            fi ;;
        compiler)
            add gcc "compiles the lab's C programs for their tests"
            add libc6-dev "the C library's headers" ;;
        compose) add "$(compose_package)" "Compose, which starts the hosts together" ;;
        builder)
            add mmdebstrap "builds the base image from Debian's packages where no registry answers"
            if ! [ -e "$root/usr/share/keyrings/debian-archive-keyring.gpg" ]; then
                add debian-archive-keyring "the keys that Debian's packages are checked with"
            fi ;;
        esac
    done
    case " $needs " in *" engine "* | *" compose "*) choose_buildx ;; esac
}

# Compose 2 and later build with it. It goes along with the engine and Compose, whose packages only recommend it, and is
# never missed on its own: without it Compose builds in another way, and some distributions have none.
choose_buildx() {
    buildx=docker-buildx
    if [ -e "$root/var/lib/dpkg/info/docker-ce-cli.list" ]; then buildx=docker-buildx-plugin; fi
    if have_plugin docker-buildx || ! offered $buildx; then return; fi
    case " $packages " in
    *" docker-compose "*) version=$(apt-cache show docker-compose | sed -n 's/^Version: //p' | head -n 1) ;;
    *) version=$(docker-compose version --short 2>/dev/null || :) ;;
    esac
    case $version in 1.*) ;; *) add $buildx "what Compose builds images with" ;; esac
}

add() {
    packages="$packages${packages:+ }$1"
    reasons="$reasons$(printf '\n  %-22s %s' "$1" "$2")"
}

# Docker's own packages bring the plugin; Ubuntu has it as -v2; Debian calls every version docker-compose.
compose_package() {
    if [ -e "$root/var/lib/dpkg/info/docker-ce-cli.list" ]; then first_offered docker-compose-plugin
    elif [ "$ID" = ubuntu ]; then
        if offered docker-compose && ! offered docker-compose-v2; then echo docker-compose; else echo docker-compose-v2; fi
    else first_offered docker-compose-v2 docker-compose; fi
}

# The command that an administrator of another system would type.
foreign_command() {
    words='' names='' python_name=python3 engine_name=docker compose_name=docker-compose compiler_names=gcc
    if have dnf; then words="dnf install" engine_name=moby-engine compiler_names="gcc glibc-static"
    elif have zypper; then words="zypper install" python_name=python311 compiler_names="gcc glibc-devel-static"
    elif have pacman; then words="pacman -S --needed" python_name=python
    elif have apk; then words="apk add" compose_name=docker-cli-compose compiler_names="gcc musl-dev"
    else
        # shellcheck disable=SC2086  # a list of words
        echo "install $(in_words $needs) (Docker's: https://docs.docker.com/engine/install/)"
        return
    fi
    for need in $needs; do
        case $need in
        python) names="$names $python_name" ;;
        engine) names="$names $engine_name" ;;
        compose) names="$names $compose_name" ;;
        compiler) names="$names $compiler_names" ;;
        esac
    done
    echo "${sudo}$words$names"
}

start_command() {
    if [ -d "$root/run/systemd/system" ]; then echo "systemctl start docker"
    elif [ "$(cat /proc/1/comm)" = init ] && [ -x "$root/etc/init.d/docker" ]; then echo "service docker start"
    else echo "sh -c 'setsid dockerd >$engine_log 2>&1 &'"; fi
}

# Cause and remedy, and the exit code of everything that a machine must be mended for.
fail() {
    printf 'lab: %s\n     %s\n' "$1" "$2" >&2
    exit 3
}

# "a", "a and b", "a, b and c" of the needs, in plain words.
in_words() {
    list=''
    left=$#
    for need in "$@"; do
        case $need in
        python)
            need="Python 3.11 or newer with venv"
            if have python3; then
                if new_enough python3; then need="Python's venv module"; else need="$need ($(python3 -V) is too old)"; fi
            fi ;;
        engine) need="a container engine" ;;
        compose) need="Compose" ;;
        builder) need="a builder of the base image" ;;
        compiler) need="a C compiler with its headers" ;;
        esac
        if [ -z "$list" ]; then list=$need; elif [ $left = 1 ]; then list="$list and $need"; else list="$list, $need"; fi
        left=$((left - 1))
    done
    echo "$list"
}

# One message on all that is wrong, for whoever may not or must not mend it here.
explain() {
    sudo='' me=$(id -un) whose=Type
    if [ "$(id -u)" != 0 ]; then
        if have sudo; then sudo='sudo '; else whose='As root, type'; fi
    fi
    cause='' command='' after=''
    if [ -n "$needs" ]; then
        # shellcheck disable=SC2086  # a list of words
        cause="$release lacks $(in_words $needs)"
        if [ $system = debian ]; then
            choose_packages
            command="${sudo}apt-get update && ${sudo}apt-get install --no-install-recommends $packages"
        else
            command=$(foreign_command)
        fi
    fi
    case $engine in
    stopped)
        cause="$cause${cause:+, and }the container engine is stopped"
        command="$command${command:+ && }$sudo$(start_command)" ;;
    stuck)
        fail "the container engine runs (dockerd, process $engine_pid) and does not answer on $socket." \
             "Look at its log; end it (${sudo}kill -9 $engine_pid), then repeat: it will be started anew." ;;
    barred)
        cause="$cause${cause:+, and }user $me may not use the container engine ($socket)" ;;
    esac
    if [ "$(id -u)" != 0 ] && [ "$engine" != foreign ] && [ "$engine" != running ]; then
        case ",$(grep '^docker:' "$root/etc/group" 2>/dev/null | cut -d: -f4)," in
        *",$me,"*) after="log in again (the group docker has $me already)" ;;
        *)
            command="$command${command:+ && }${sudo}usermod -aG docker $me"
            after="log in again" ;;
        esac
    fi
    [ "${LAB_INSTALL:-1}" != 0 ] || cause="$cause (LAB_INSTALL=0 forbids to mend it here)"
    fail "$cause." "${command:+$whose: }$command${command:+${after:+; then }}$after; then repeat."
}

# ---- mending ------------------------------------------------------------------------------------------------

now() { date +%s; }

last_lines() { tail -n 12 "$1" | sed 's/^/     | /' >&2; }

install_packages() {
    begun=$(now)
    echo "Reading the lists of packages of $release ..."
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if ! apt-get update -q -o Acquire::Retries=2 -o DPkg::Lock::Timeout=120 >"$log" 2>&1; then
        echo "lab: the lists of packages could not be read in full; going on with those there are:" >&2
        last_lines "$log"
    fi
    choose_packages
    echo "This machine lacks what the lab needs; these packages will be installed (LAB_INSTALL=0 forbids it):$reasons"
    # shellcheck disable=SC2086  # a list of words
    if ! apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=120 $packages >"$log" 2>&1 </dev/null; then
        last_lines "$log"
        fail "apt-get could not install $packages (its last lines are above)." \
             "Type: apt-get update && apt-get install --no-install-recommends $packages; when that works, repeat."
    fi
    rm -f "$log"
    trap - EXIT INT TERM
    echo "Installed in $(($(now) - begun)) s."
}

# True once the engine answers; false at the deadline, or at once when process $2 has ended.
wait_for_engine() {
    until=$(($(now) + $1))
    while ! engine_answers; do
        if [ "$(now)" -ge "$until" ]; then return 1; fi
        if [ -n "${2:-}" ] && ! kill -0 "$2" 2>/dev/null; then return 1; fi
        sleep 0.2
    done
}

start_engine() {
    # dockerd takes any process of a number in these for a living one, and will not start beside it.
    runs "$engine_file" dockerd || rm -f "$engine_file"
    runs "$containerd_file" containerd || rm -f "$containerd_file"
    if [ -d "$root/run/systemd/system" ]; then
        echo "Starting the engine: systemctl start docker ..."
        systemctl start docker || :
        wait_for_engine 60 || fail "the engine was started by systemd and does not answer." "Look at: journalctl -u docker"
        return
    fi
    if [ -x "$root/etc/init.d/docker" ] && service docker start >/dev/null 2>&1 </dev/null; then
        echo "Starting the engine: service docker start ..."
        if wait_for_engine 20; then return; fi
    fi
    echo "Starting the engine: no init system serves here, so dockerd itself runs in the background (log: $engine_log) ..."
    setsid dockerd >"$engine_log" 2>&1 </dev/null &
    if ! wait_for_engine 60 $!; then
        last_lines "$engine_log"
        fail "dockerd was started and does not answer (its last lines are above)." "Look at: $engine_log"
    fi
}

# ---- the two commands ---------------------------------------------------------------------------------------

machine() {
    # A .venv that was moved, or has lost its Python, is made again: without its stamps it counts as not made.
    if [ -e .venv ] && ! whole_venv; then rm -f .venv/run .venv/dev; fi
    look
    case $needs$engine in running | foreign) return ;; esac
    look_at_system

    if [ "$(id -u)" != 0 ] || [ $system = other ] || [ "${LAB_INSTALL:-1}" = 0 ]; then
        # The builder alone is no reason to stop: a registry may well answer, and the lab says so if not.
        case ${needs# }:$engine in builder:running | builder:foreign) return ;; esac
        explain
    fi
    if [ -n "$needs" ]; then
        install_packages
        look # a package may have started the engine
        if [ -n "$needs" ]; then explain; fi
    fi
    if [ "$engine" = stuck ]; then # just started, by a package or by hand: give it time
        wait_for_engine 30 || explain
        engine=running
    fi
    if [ "$engine" = stopped ]; then
        start_engine
        echo "The engine answers."
    fi
}

# The stamps say that .venv is whole: away before it is touched, back when all is done. Without them it is made anew,
# so that an interrupted installation mends itself.
venv() {
    needs='' engine=foreign
    find_python || needs=python
    if [ "${1:-}" = dev ] && ! have_compiler; then needs="$needs compiler"; fi
    if [ -n "$needs" ]; then
        look_at_system
        if [ "$(id -u)" != 0 ] || [ $system = other ] || [ "${LAB_INSTALL:-1}" = 0 ]; then explain; fi
        install_packages
        find_python || explain
    fi
    whole=
    if whole_venv; then whole=yes; fi
    rm -f .venv/run .venv/dev
    echo "Installing the lab${1:+ and its test tools} into .venv ($("$python" -V)) ..."
    [ -n "$whole" ] || "$python" -m venv --clear .venv || fail "$python -m venv failed (see above)." "Mend it, then repeat."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".${1:+[$1]}" ||
        fail "pip could not install the lab's Python packages (see above)." \
             "Look at the network (behind a proxy: PIP_CERT, PIP_INDEX_URL), then repeat."
    # pip compiles what it copies, and this it leaves where it is: each call by a user who may not write here, or has
    # PYTHONDONTWRITEBYTECODE set, would compile it anew.
    .venv/bin/python -m compileall -q lab
    [ -z "${1:-}" ] || echo "$PWD" >.venv/dev
    echo "$PWD" >.venv/run
}

cd "$(dirname "$0")/.."
case ${1:-} in
machine) machine ;;
venv) venv "${2:-}" ;;
*)
    echo "usage: lab/bootstrap.sh machine | venv [dev]" >&2
    exit 2 ;;
esac
