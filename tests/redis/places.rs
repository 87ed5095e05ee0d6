//! The places where a Redis is: what they refuse, what lies in front of them, and how far away they are.

mod far_cluster;
mod in_front;
mod node;
mod refused;
