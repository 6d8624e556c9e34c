//! The real binary as a service: what it tells systemd, what it survives, what it leaves behind.

mod clients;
mod configuration;
mod drift;
mod end;
mod instance;
mod last_good;
mod life;
mod neighbours;
mod noise;
mod strangers;
mod strays;
mod tools;
mod undo;

use crate::lab;
use crate::service::{self, CONFIG, Host, RUNTIME, STATE, Service, environment, host};
use noise::Noise;
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const GOOD: &str = "nonMasqueradeCIDRs: [10.0.0.0/8]\n";
const OTHER: &str = "nonMasqueradeCIDRs: [192.168.0.0/16]\n";
const BAD: &str = "nonMasqueradeCIDRs: [10.0.0.0/33]\n";
const JOURNAL: &str = "/run/systemd/journal/socket";
