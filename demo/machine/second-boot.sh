# What is typed on the machine of the demo at its second boot.
## before the network is up, as tsugi-boot.service does it
tsugi agent --boot
cat /sys/kernel/livepatch/*/enabled
ls /sys/class/net
## network
## the agent goes on
tsugi agent >>/run/agent.log 2>&1 & #
for i in $(seq 300); do tsugi status --json 2>/dev/null | grep -q '"state": "healthy"' && break; usleep 200000; done; #
tsugi status
## and out it goes again, live
tsugi revert
ls /sys/kernel/livepatch | wc -l
sleep 1; kill $(pidof tsugi); wait #
