/* What a packet of an open connection costs at a gateway: packets ROUNDS PACKETS VARIANT...
 *
 * A variant is three namespaces VARIANT-l, VARIANT-g and VARIANT-o in a row. Each flow is answered once, so that it is open;
 * then the far end drops what comes in, and packets are sent by turns through all variants. The first variant is the zero
 * point: its gateway drops on arrival and nothing is answered. Where the clock counts instructions, so does this. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FLOWS = 16, MOST = 8, ROUNDS = 1000 };

static struct { const char *name; int near[FLOWS]; double rounds[ROUNDS]; } variants[MOST];

static void die(const char *what) { perror(what); exit(1); }

static void enter(const char *variant, char node) {
  char path[128];
  snprintf(path, sizeof path, "/run/netns/%s-%c", variant, node);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET)) die(path);
  close(fd);
}

static int bound(const char *address, int port) {
  struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(address) };
  struct timeval second = { 1, 0 };
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
  if (bind(fd, (void *)&here, sizeof here)) die("bind");
  return fd;
}

static void open_flows(int number, int answered) {
  for (int flow = 0; flow < FLOWS; flow++) {
    struct sockaddr_in far_end = { .sin_family = AF_INET, .sin_port = htons(20000 + flow), .sin_addr.s_addr = inet_addr("198.18.0.2") };
    enter(variants[number].name, 'l');
    int near = variants[number].near[flow] = bound("192.168.77.2", 30000 + flow);
    if (connect(near, (void *)&far_end, sizeof far_end)) die("connect");
    if (!answered) continue;
    enter(variants[number].name, 'o');
    int far = bound("198.18.0.2", 20000 + flow);
    for (int turn = 0; turn < 3; turn++) {
      struct sockaddr_in seen;
      socklen_t length = sizeof seen;
      char byte = 'x';
      if (send(near, &byte, 1, 0) != 1 || recvfrom(far, &byte, 1, 0, (void *)&seen, &length) != 1) die(variants[number].name);
      if (sendto(far, &byte, 1, 0, (void *)&seen, length) != 1 || recv(near, &byte, 1, 0) != 1) die(variants[number].name);
    }
    close(far);
  }
  if (!answered) return;
  char command[256];
  snprintf(command, sizeof command, "ip netns exec %s-o nft 'table netdev t { chain c { type filter hook ingress device wan0 priority 0; policy drop; }; }'", variants[number].name);
  if (system(command)) die(command);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e9 + time.tv_nsec;
}

static void blast(int number, int packets) {
  char payload[18] = "x";
  for (int packet = 0; packet < packets; packet++)
    if (send(variants[number].near[packet % FLOWS], payload, sizeof payload, 0) < 0) die("send");
}

static int order(const void *one, const void *other) {
  double difference = *(const double *)one - *(const double *)other;
  return (difference > 0) - (difference < 0);
}

int main(int count, char **words) {
  int rounds = count > 3 ? atoi(words[1]) : 0, packets = rounds ? atoi(words[2]) : 0, all = count - 3;
  if (rounds < 1 || rounds > ROUNDS || packets < 1 || all > MOST) return 2;
  for (int number = 0; number < all; number++) {
    variants[number].name = words[3 + number];
    open_flows(number, number > 0);
  }
  for (int round = 0; round < rounds; round++)
    for (int turn = 0; turn < all; turn++) {
      int number = (turn + round) % all;
      blast(number, FLOWS);
      double begun = now();
      blast(number, packets);
      variants[number].rounds[round] = (now() - begun) / packets;
    }
  for (int number = 0; number < all; number++) {
    qsort(variants[number].rounds, rounds, sizeof(double), order);
    printf("%s %.0f\n", variants[number].name, variants[number].rounds[rounds / 2]);
  }
  return 0;
}
