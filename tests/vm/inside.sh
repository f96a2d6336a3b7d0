#!/bin/bash
# What is tried in the machine of run.sh, as root below a real systemd. Parts:
#
#   user        config/user/hivehub.service of an ordinary user who lingers, then a launcher that may make no cgroup
#   tests       those of src/os about cgroups, where the launcher is in the root cgroup
#   supervised  config/hivehub.service with a cgroup for the launcher alone, as systemd 254 makes one: all limits
#   unit        the same as this systemd has it: before 254 without controllers
set -u
. /vm/env
failed=0 opt=/opt/hiveot logs=/var/log/hiveot groups=/sys/fs/cgroup

check() { # what, command
	if "${@:2}"; then echo "ok: $1"; else echo "FAILED: $1"; failed=1; return 1; fi
}
# The emulated machine is slow; only a failure waits so long.
soon() { # command
	local until=$((SECONDS + 180))
	until "$@"; do [ $SECONDS -lt $until ] && sleep 0.3 || return 1; done
}
says() { grep -qE -- "$1" <<<"$("${@:2}" 2>&1)"; } # pattern, command
log() { cat $logs/launcher.log; }
hub() { $opt/bin/hubcli "$@"; }
field() { hub --json ls 2>/dev/null | python3 -c 'import json, sys
print(*(p[sys.argv[2]] for p in json.load(sys.stdin) if p["Name"] == sys.argv[1]))' "$@" 2>/dev/null; } # plugin, field
phase() { [ "$(field "$1" Phase)" = "$2" ]; }
run_of() { find $groups -type d -name "run-$1.*"; }
launcher() { systemctl show -p MainPID --value hivehub; }
nobody() { ! pgrep -a -f -u "$1" 'launcher|mqttcore|sleep 1000|plugins/'; }

plugin() { # file, script
	printf '#!/bin/sh\n%s\n' "$2" >"$1"
	chmod 755 "$1"
}

tests() {
	local suite
	suite=$(ls -t "$target"/debug/deps/os-* | grep -v '\.d$' | head -1)
	# Elsewhere no process may be where controllers are handed on.
	echo $$ >$groups/cgroup.procs
	cd "$repo/src/os" || return
	echo 'left out: a_storm_of_forks: it needs no controller, and an emulated machine takes too long'
	check "the tests of cgroups" "$suite" --nocapture --skip a_storm_of_forks cgroup::
}

install_hub() {
	useradd --system --home-dir /var/lib/hiveot hiveot
	install -d $opt/bin $opt/plugins /etc/hiveot/conf.d
	install "$target"/debug/{launcher,hubcli,mqttcore} $opt/bin/
	plugin $opt/plugins/calm 'exec sleep 1000'
	plugin $opt/plugins/burner 'while :; do :; done'
	plugin $opt/plugins/eater 'head -c 100000000 /dev/zero | tail; sleep 1000'
	plugin $opt/plugins/bomb 'bomb() { bomb | bomb & }; trap "" TERM; bomb; while :; do sleep 1; done'
	cat >/etc/hiveot/conf.d/launcher.yaml <<-EOF
	{corebin: mqttcore, logLevel: info, autostart: [calm, burner], stop: {grace: 2s}, restart: {firstDelay: 1h, delay: 1h},
	 limits: {strikes: 1000, action: event}, plugins: {eater: {limits: {memory: 24MiB, hard: true}},
	 bomb: {limits: {pids: 30}}, burner: {limits: {cpu: 20%, hard: true}}}}
	EOF
	cp "$repo/config/hivehub.service" /etc/systemd/system/
}

up() {
	[ -d $opt ] || install_hub
	systemctl daemon-reload
	check "the unit starts" systemctl start hivehub && check "it is up" soon phase burner running && return
	systemctl status hivehub --no-pager
	log | tail -30
	return 1
}

is_another() { ! says "^(0|$1)\$" launcher; }
# What systemd does to a hub that is up.
rules() {
	local before
	before="$(launcher) $(field calm PID)"
	systemctl reload hivehub && systemctl reload-or-restart hivehub
	check "a reload leaves all alone" test "$before" = "$(launcher) $(field calm PID)"
	systemctl restart hivehub
	check "a restart brings up all" soon phase burner running
	check "and ended those before" is_another "${before% *}"
	before=$(launcher)
	kill -9 "$before"
	check "a launcher that was killed is back" soon is_another "$before"
	check "with all plugins" soon phase burner running
	systemctl stop hivehub
	check "a stop leaves nobody" nobody hiveot
	check "and no cgroup" test -z "$(find $groups -name 'hiveot-*')"
	check "the core was asked to stop, too" says 'core run [0-9]+ ended: stopped as asked' cat $logs/core.log
}

unit() {
	up || return
	check "each run has a cgroup" says 'own in .*hivehub.service.*no hard limit of cpu, memory, pids: ' hub why launcher
	check "its plugin is in it" test -n "$(run_of calm)"
	check "the log names what is not in force" says 'burner: the hard limit of cpu is not in force: .*systemd 254' log
	check "so does why" says 'it runs, run [0-9]+; the hard limit of cpu is not in force: ' hub why burner
	rules
}

supervised() {
	local drop=/run/systemd/system/hivehub.service.d
	mkdir -p $drop
	cat >$drop/subgroup.conf <<-EOF
	[Service]
	ExecStart=
	ExecStart=/bin/sh -c 'c=$groups\$\$(sed s/0::// /proc/self/cgroup)/supervisor; mkdir -p \$\$c; echo \$\$\$\$ >\$\$c/cgroup.procs; exec $opt/bin/launcher'
	EOF
	up || return
	hub start eater >/dev/null
	check "a hard limit of memory kills" soon phase eater backoff
	check "why tells the numbers" says 'lack of memory, 2[34][.0-9]* MiB used of 24 MiB allowed' hub why eater
	check "so does the log" says 'plugin=eater .*lack of memory.*24 MiB allowed' log
	check "a hard limit of cpu holds" says '^nr_throttled [1-9]' cat "$(run_of burner)/cpu.stat"
	check "at its share" says '^20000 100000$' cat "$(run_of burner)/cpu.max"
	hub start bomb >/dev/null
	check "a fork bomb is held" soon says '^max [1-9]' cat "$(run_of bomb)/pids.events"
	check "meanwhile the launcher answers" phase calm running
	hub stop bomb >/dev/null
	check "nothing of the bomb is left" test -z "$(run_of bomb)$(pgrep -f plugins/bomb)"
	rules
	rm -r $drop
}

as_joe() { runuser -u joe -- env XDG_RUNTIME_DIR="/run/user/$(id -u joe)" "$@"; }

user() {
	local home=/home/joe/hiveot units=/home/joe/.config/systemd/user
	useradd --create-home joe
	install -d $home/{bin,plugins,config} $units
	install "$target"/debug/{launcher,hubcli,mqttcore} $home/bin/
	plugin $home/plugins/calm 'exec sleep 1000'
	echo '{corebin: mqttcore, autostart: [calm], plugins: {calm: {limits: {pids: 20}}}}' >$home/config/launcher.yaml
	cp "$repo/config/user/hivehub.service" $units
	chown -R joe /home/joe
	loginctl enable-linger joe
	check "the user's systemd is up" soon as_joe systemctl --user --quiet is-active default.target
	check "the unit of the user starts" as_joe systemctl --user enable --now hivehub
	check "its plugin runs" soon says 'calm .*running' as_joe $home/bin/hubcli ls
	check "in a cgroup of that unit" says "own in $groups/user.slice/.*/hivehub.service" as_joe $home/bin/hubcli why launcher
	check "what is not in force is said" says 'hard limit of pids is not in force: ' as_joe $home/bin/hubcli why calm
	as_joe systemctl --user stop hivehub
	check "a stop leaves nobody" nobody joe
	# As in a container: the tree of cgroups is there, but not for us.
	as_joe unshare --user --map-root-user --mount --cgroup sh -c \
		"mount -t cgroup2 -o ro none $groups; exec $home/bin/launcher" >/dev/null 2>&1 &
	check "a launcher that may make no cgroup runs" soon says 'calm .*running' as_joe $home/bin/hubcli ls
	check "and says why" says 'process group and mark, as no (cgroup can be made in|file system of cgroup v2)' as_joe $home/bin/hubcli why launcher
	pkill -u joe -x launcher
	wait $!
	check "it leaves nobody" nobody joe
}

for part in "${parts[@]}"; do "$part"; done
[ $failed = 1 ] || echo 'vm: passed'
