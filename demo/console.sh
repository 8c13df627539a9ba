# shellcheck shell=bash disable=SC2154
# The end of make demo, and make demo-console alone: a server with a worker, a
# fleet that is alive, and the console open for whoever wants to look. Sourced;
# it wants $tsugictl, $tsugi_server, $out, $port, field, say, run and the
# versions of versions.env.

fleet_target=debian:$OLD_RELEASE
fleet_part=net/sched
fleet_excluded=CVE-2026-90099
# shared is the home whose kernels, sources and objects the worker takes.
shared=${TSUGI_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tsugi}
watched=no
if [ -n "${DEMO_STAY:-}" ] || { [ -t 0 ] && [ -t 1 ] && [ -z "${CI:-}" ]; }; then watched=yes; fi

# The server again, reached by this computer's browser, with a worker in it.
serve_console() {
	export TSUGI_SERVER_URL=https://127.0.0.1:$port TSUGI_SERVER_TLS_NAMES=127.0.0.1,10.0.2.100
	export TSUGI_SERVER_WORKERS_COUNT=1 TSUGI_SERVER_WORKERS_HOME=$shared
	"$tsugi_server" serve --dir "$out/server" 2>>"$out/server.log" &
	server=$!
	until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
		kill -0 "$server" 2>/dev/null || { cat "$out/server.log"; exit 1; }
		sleep 0.1
	done
	field operator_token "$out/init.json" |
		run "$tsugictl" login "https://127.0.0.1:$port" --ca-sha256 "$(field ca_sha256 "$out/init.json")"
}

# The fleet: machines that are none, but speak as agents do (demo/fleet). None is
# in the first tier: there a live patch comes as soon as it is built.
fleet=
start_fleet() {
	run "$tsugictl" target add "$fleet_target" --version "$OLD_VERSION"
	run "$tsugictl" settings --machines 0 --interval 30s
	local tier words=()
	for tier in beta:60 stable:240; do
		"$tsugictl" token new "demo fleet, ${tier%:*}" --tier "${tier%:*}" --group "${tier%:*}" --json >"$out/token-${tier%:*}.json"
		words+=("$(field enroll "$out/token-${tier%:*}.json")=${tier#*:}")
	done
	# With the second live patch one machine in ten goes down.
	echo "2 10%" >"$out/sick"
	"$out/fleet" -target "$fleet_target" -sick "$out/sick" -ready "$out/fleet.ready" "${words[@]}" >"$out/fleet.log" 2>&1 &
	fleet=$!
	until [ -e "$out/fleet.ready" ]; do
		kill -0 "$fleet" 2>/dev/null || { cat "$out/fleet.log"; exit 1; }
		sleep 0.2
	done
	cat "$out/fleet.log"
}

# What the policy chooses of it is built and proven as soon as it is pushed.
push_update() {
	run "$tsugictl" fix export "$out/fixes" --update "$OLD_FIXED" -t "$fleet_target" --security --subsystem "$fleet_part"
	# Two of them change headers that all of net/ reads, which takes many minutes to judge.
	local name
	for name in cls_api sch_fq_codel-fq_codel_change; do
		rm "$out/fixes/net-sched-$name.diff"
		sed -i "/- net-sched-$name\$/d" "$out/fixes/series.yaml"
	done
	run "$tsugictl" update push "$out/fixes" -t "$fleet_target" --name net-sched
}

# A rollout of a real fleet takes days; one that is watched takes minutes.
quick_rollouts() {
	cat >"$out/rollouts.yaml" <<'END'
tiers:
  stable:
    plan:
      waves: [{upto: 5, soak: 15s}, {upto: 25%, soak: 30s}, {upto: 100%}]
      max_in_flight: 50%
      ramp: 100
      settle: 1m
      watch: 10m
      patience: 10m
END
	say "$tsugictl" rollout settings --set "$out/rollouts.yaml"
	"$tsugictl" rollout settings --set "$out/rollouts.yaml" >/dev/null
}

# answers: the console's page, its program, and the link's page.
console_answers() {
	local page
	page=$(curl -fsS -H 'Accept: text/html' --cacert "$out/server/ca/ca.pem" "https://127.0.0.1:$port/console/")
	curl -fsS --cacert "$out/server/ca/ca.pem" -o /dev/null "https://127.0.0.1:$port$(sed -n 's/.*src="\(\/console\/assets\/[^"]*\)".*/\1/p' <<<"$page" | head -n 1)"
	echo "the console answers: $(grep -o '<title>[^<]*' <<<"$page" | sed 's/<title>//')"
}

# link: one sign-in, told this once.
link() { "$tsugi_server" user link "$1" --sign-in --dir "$out/server" | grep -o 'https://[^ ]*'; }

invite() {
	cat <<END

${bold}The console is open:${off}

  $(link owner)

  Good for one sign-in within 15 minutes; the next one: $tsugi_server user link owner --sign-in --dir $out/server
  The certificate is of the server's own authority: your browser asks whether you trust it.
  From another computer: ssh -L $port:127.0.0.1:$port THIS-HOST, and the same address.

  300 machines run $fleet_target; they are simulated, all else is real. Their first live patch is being built and
  proven (Builds), and goes to all of them: half a minute, or some minutes where nothing was built before. Then try this:

  1. Policies, default, Exclude: $fleet_excluded, with a reason. Version 2 is built and proven without it (Builds).
  2. Rollouts, New rollout: $(tr : - <<<"$fleet_target")-v2 through the tier stable. Watch the waves.
  3. One machine in ten goes down with it ($out/sick says so): the rollout halts by itself, and says why.
  4. Take it out. Machines that had it are without a live patch then, since version 1 holds what you excluded;
     all others have kept version 1.

  With tsugictl, in another terminal: TSUGI_SESSION=$TSUGI_SESSION $tsugictl machine ls
  Ctrl-C ends all of it.
END
}

# lead: the first live patch goes to the fleet when it is there.
lead() {
	local id='' tier
	until [ -n "$id" ]; do
		kill -0 "$server" "$fleet" 2>/dev/null || return 0
		sleep 1
		id=$("$tsugictl" livepatch ls --target "$fleet_target" --json 2>/dev/null | field id /dev/stdin | head -n 1)
	done
	printf '\n%s\n' "The first live patch is there, and goes to the fleet:"
	for tier in beta stable; do
		say "$tsugictl" promote "$id" "$tier"
		"$tsugictl" promote "$id" "$tier" >/dev/null
	done
}

# computer_stays: the machine of the demo comes up once more.
computer_stays() {
	"$out/machine" -stay -target "$target" -disk "$out/web-1.img" -tsugi "${TSUGI:-bin/tsugi}" -server "127.0.0.1:$port" \
		-script demo/machine/stays.sh >"$out/web-1.log" 2>&1 &
	# shellcheck disable=SC2064 # the id of now
	trap "kill $! 2>/dev/null; wait $!; exit 0" INT TERM
	wait $! || echo "web-1 has gone: $out/web-1.log says why"
}

# end_all: what was started ends, and is waited for.
end_all() {
	# shellcheck disable=SC2086 # several ids, or none
	kill $fleet $leader $computer_pid $server 2>/dev/null || true
	wait
	fleet='' leader='' computer_pid='' server=''
}
server='' leader='' computer_pid=''

# stay: until Ctrl-C, with the machine of the demo; without anybody there it is over.
stay() {
	if [ "$watched" = no ]; then
		link owner >/dev/null
		return
	fi
	invite
	local status=0
	trap : INT
	(trap '' INT && lead) &
	leader=$!
	if [ -x "$out/machine" ]; then
		computer_stays &
		computer_pid=$!
	fi
	wait "$server" || status=$? # 0 or above 128: Ctrl-C
	end_all
	trap - INT
	[ "$status" -eq 0 ] || [ "$status" -gt 128 ] || {
		echo "the server has ended: $out/server.log says why"
		return 1
	}
	printf '\n%s\n' "Ended. What came out is in $out."
}
