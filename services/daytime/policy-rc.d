#!/bin/sh
# policy-rc.d: tells invoke-rc.d that every action is allowed (104, as its manual says).
exit 104
