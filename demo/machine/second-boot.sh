# What is typed on the machine of the demo at its second boot: see main.go.
## before the network is up, as tsugi-boot.service does it
ls /sys/class/net
tsugi agent --boot 2>/dev/null
tail /sys/kernel/livepatch/*/enabled
## network
## the agent goes on
tsugi agent >>/run/agent.log 2>&1 & #
for i in $(seq 300); do tsugi status --json 2>/dev/null | grep -q '"state": "healthy"' && break; usleep 300000; done #
tsugi status
## and out it goes again, live
tsugi revert
ls /sys/kernel/livepatch | wc -l
sleep 1; kill $(pidof tsugi); while pidof tsugi; do usleep 50000; done; true #
